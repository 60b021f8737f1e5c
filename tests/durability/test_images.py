"""Power cuts on a real file system, where this machine lets us mount one."""

import pytest

from headrace.tools.launch import headrace_program
from headrace.tools.selftest import images
from headrace.tools.selftest.images import NoImages, run_images


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_no_promise_is_broken_by_power_cuts_on_a_real_file_system() -> None:
    try:
        result = run_images(headrace_program(), count=5, seed=1)
    except NoImages as error:
        pytest.skip(f"no images on this machine: {error}")
    assert result.findings == []
    assert result.acked > 0


def test_a_machine_without_images_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_mount(*command: str) -> None:
        raise NoImages(f"{command[0]}: not here")

    monkeypatch.setattr(images, "_run", no_mount)
    with pytest.raises(NoImages, match=r"^mkfs\.ext4: not here$"):
        run_images(headrace_program(), count=1, seed=1)
