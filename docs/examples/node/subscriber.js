// Prints what is published on order_updates. Start this one first: node subscriber.js [count]
// With a count it ends after so many messages.
const { connect, StringCodec } = require("nats");

async function main() {
  const nc = await connect({ servers: process.env.NATS_URL || "nats://127.0.0.1:4222" });
  const sc = StringCodec();
  const max = Number(process.argv[2] || 0);
  const sub = nc.subscribe("order_updates", max ? { max } : {});
  await nc.flush();
  console.log("listening on order_updates");
  for await (const m of sub) {
    console.log(`[${sub.getProcessed()}] ${sc.decode(m.data)}`);
  }
  await nc.drain();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
