// nodes.mjs RUN SECONDS: nanoseconds per merkle node of @chainsafe/hashtree, in runs of RUN pairs, as
// one line of JSON. hash_speed.c measures the library in the same way.

import { hashInto } from "@chainsafe/hashtree";

const BATCH = 1 << 16; // pairs hashed between two looks at the clock, at least

const run = Number(process.argv[2]);
const seconds = Number(process.argv[3]);
const pairs = new Uint8Array(run * 64);
const view = new DataView(pairs.buffer);
for (let i = 0; i + 8 <= pairs.length; i += 8) {
  view.setBigUint64(i, BigInt.asUintN(64, BigInt(i + 1) * 0x9e3779b97f4a7c15n), true);
}
const out = new Uint8Array(run * 32);
let count = 0;
let took = 0;
const began = process.hrtime.bigint();
do {
  for (let done = 0; done < BATCH; done += run) {
    hashInto(pairs, out);
    count += run;
  }
  took = Number(process.hrtime.bigint() - began);
} while (took < seconds * 1e9);
console.log(JSON.stringify({ ns_per_node: took / count, nodes: count }));
