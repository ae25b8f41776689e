// The side of lib/cap: a running driver.c that is asked about one upload at a time.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Driver {
  constructor(program) {
    this.child = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.exited = new Promise((resolve) => {
      this.child.on('exit', (code, signal) => resolve(signal ?? code));
    });
    this.child.stdin.on('error', () => {});
    this.answers = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  // Its answer, a line of JSON.
  async ask(upload) {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(upload.length);
    this.child.stdin.write(Buffer.concat([head, upload]));
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`the driver stopped at ${upload.toString('hex')}`);
    return value;
  }

  // Resolves to its exit status or signal.
  end() {
    this.child.stdin.end();
    return this.exited;
  }
}
