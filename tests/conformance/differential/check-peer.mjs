// Holds the peer itself (formats.mjs) to the vectors: node check-peer.mjs VECTORS-DIR
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { verdict } from './formats.mjs';

const dir = process.argv[2];
const { valid, invalid } = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8'));
let failures = 0;
const expect = (vector, what, got, wanted) => {
  if (got === wanted) return;
  failures++;
  console.error(`${vector.name}: ${what} is ${got}, the vector says ${wanted}`);
};
for (const vector of valid) {
  const got = verdict(readFileSync(join(dir, vector.file)));
  expect(vector, 'verdict', got.verdict, 'ok');
  expect(vector, 'image_content_hash', got.image_content_hash, vector.image_content_hash);
  expect(vector, 'cap_hash', got.cap_hash, vector.cap_hash);
  expect(vector, 'body', got.body, vector.body_sha256);
  expect(vector, 'body_len', got.body_len, vector.body_len);
  vector.data.forEach((data, i) => expect(vector, `data ${i}`, got.data?.[i]?.cap_hash, data.cap_hash));
  vector.data.forEach((data, i) => expect(vector, `data body ${i}`, got.data?.[i]?.body, data.body_sha256));
}
for (const vector of invalid) {
  expect(vector, 'verdict', verdict(readFileSync(join(dir, vector.file))).verdict, vector.error);
}
console.log(`${valid.length + invalid.length} vectors, ${failures} differences`);
process.exit(failures === 0 && valid.length > 0 && invalid.length > 0 ? 0 : 1);
