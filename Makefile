# Shortcuts; each is one line that works without make.
.PHONY: check quick demo bench build clean

check:            ## everything that CI runs
	sh tools/check.sh

quick:            ## lint, types, the suite on one engine
	sh tools/check.sh quick

demo:             ## orders through a server that is killed
	.venv/bin/headrace demo orders

bench:            ## every row of the benchmark against the reference
	.venv/bin/headrace bench run

build:            ## compile the engine in place
	.venv/bin/python setup.py --quiet build_ext --inplace

clean:            ## drop what was built
	rm -rf build dist *.egg-info
	find core storage jetstream tools -name '*.so' -delete
