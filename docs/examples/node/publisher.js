// Publishes a few order updates: node publisher.js
const { connect, StringCodec } = require("nats");

async function main() {
  const nc = await connect({ servers: process.env.NATS_URL || "nats://127.0.0.1:4222" });
  const sc = StringCodec();
  for (const status of ["placed", "paid", "shipped"]) {
    nc.publish("order_updates", sc.encode(JSON.stringify({ order: 1042, status })));
    console.log(`published ${status}`);
  }
  await nc.drain();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
