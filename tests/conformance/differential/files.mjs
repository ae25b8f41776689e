// Compares lib/cap with formats.mjs on every file of some directories, whatever it is.
//
//     node files.mjs DRIVER DIRECTORY...
//
// formats.mjs itself is held to index.json by check-peer.mjs.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Driver } from './driver.mjs';
import { verdict } from './formats.mjs';

const [program, ...directories] = process.argv.slice(2);
const driver = new Driver(program);
let files = 0;
let failures = 0;
for (const directory of directories) {
  for (const name of readdirSync(directory)) {
    const bytes = readFileSync(join(directory, name));
    const lib = await driver.ask(bytes);
    const peer = JSON.stringify(verdict(bytes));
    files++;
    if (lib === peer) continue;
    failures++;
    console.error(`${name} differs\n  lib    ${lib}\n  peer   ${peer}`);
  }
}
const status = await driver.end();
console.log(`${files} files, ${failures} differences`);
if (status !== 0) console.error(`the driver ended with ${status}`);
process.exit(files > 0 && failures === 0 && status === 0 ? 0 : 1);
