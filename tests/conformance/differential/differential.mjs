// Compares lib/cap with formats.mjs on generated and mutated Images.
//
//     node differential.mjs DRIVER COUNT [SEED]
//
// DRIVER reads uploads (u32 length, bytes) and answers a JSON line each. The seed is printed; a
// disagreement prints the upload in hex with both verdicts. Fails too when a verdict never occurred that
// a run of this length must bring, so that the comparison cannot become empty.
import { Driver } from './driver.mjs';
import { random, upload } from './generate.mjs';
import { verdict } from './formats.mjs';

const [program, countText, seedText] = process.argv.slice(2);
const count = Number(countText);
const seed = seedText === undefined ? (Date.now() & 0x7fffffff) : Number(seedText);
if (!program || !(count > 0) || !(seed >= 0)) {
  console.error('usage: node differential.mjs DRIVER COUNT [SEED]');
  process.exit(2);
}
console.log(`differential: ${count} uploads, seed ${seed}`);

const EXPECTED = ['ok', 'ssz', 'code_too_large', 'code_ref_out_of_range', 'data_size_not_page_multiple',
  'data_bad_len', 'data_out_of_range', 'data_page_index_out_of_range', 'data_not_canonical',
  'register_index_out_of_range', 'source_path_empty', 'source_path_too_deep'];

const r = random(seed);
const driver = new Driver(program);
const seen = new Map();
let failures = 0;

async function compare(bytes, index) {
  const value = await driver.ask(bytes);
  const wanted = verdict(bytes);
  const text = JSON.stringify(wanted);
  seen.set(wanted.verdict, (seen.get(wanted.verdict) ?? 0) + 1);
  if (value === text) return;
  failures++;
  console.error(`upload ${index} differs\n  bytes  ${bytes.toString('hex')}\n  lib    ${value}\n  peer   ${text}`);
}

for (let i = 0; i < count && failures < 5; i++) await compare(upload(r), i);
const status = await driver.end();
for (const name of EXPECTED) console.log(`  ${name}: ${seen.get(name) ?? 0}`);
const missing = count >= 2000 ? EXPECTED.filter((name) => !seen.has(name)) : [];
if (missing.length > 0) console.error(`never seen: ${missing.join(', ')}`);
if (status !== 0) console.error(`the driver ended with ${status}`);
process.exit(failures === 0 && missing.length === 0 && status === 0 ? 0 : 1);
