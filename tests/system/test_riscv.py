"""Real input: RISC-V programs that Debian packages, and one compiled for the JAVM's layout."""

import pathlib
import shutil
import struct
import subprocess
import unittest

from harness import SystemTest, capctl

OPENSBI = "/usr/lib/riscv64-linux-gnu/opensbi/generic"
UBOOT = "/usr/lib/u-boot"
PROGRAMS = [f"{OPENSBI}/fw_dynamic.elf", f"{OPENSBI}/fw_jump.elf",
            f"{UBOOT}/qemu-riscv64/uboot.elf", f"{UBOOT}/qemu-riscv64_smode/uboot.elf"]
CODE_BASE, DATA_BASE = 0x00400000, 0x10000000

SOURCE = r"""
/* Read-only data, initialised data, zero-filled data and code, as a program has them. */
static const char greeting[4096 * 2] = "hello from the JAVM";
static long counter[1024] = { 1, 2, 3 };
static char scratch[1 << 20];

void _start(void)
{
    for (int i = 0; i < 1024; i++) {
        counter[i] += greeting[i % 16];
        scratch[counter[i] & 0xfffff] = 1;
    }
    for (;;) {
    }
}
"""

SCRIPT = f"""
ENTRY(_start)
PHDRS {{ text PT_LOAD FLAGS(5); rodata PT_LOAD FLAGS(4); data PT_LOAD FLAGS(6); }}
SECTIONS {{
    . = {CODE_BASE:#x}; .text : {{ *(.text*) }} :text
    . = {DATA_BASE:#x}; .rodata : {{ *(.rodata* .srodata*) }} :rodata
    . = ALIGN(4096); .data : {{ *(.data* .sdata*) }} :data
    .bss : {{ *(.bss* .sbss*) }} :data
    /DISCARD/ : {{ *(.comment .note* .eh_frame* .riscv.attributes) }}
}}
"""


def segments(path):
    """PT_LOAD segments of a 64-bit little-endian ELF: (flags, offset, vaddr, filesz, memsz)."""
    elf = pathlib.Path(path).read_bytes()
    phoff, = struct.unpack_from("<Q", elf, 32)
    phentsize, phnum = struct.unpack_from("<HH", elf, 54)
    found = []
    for i in range(phnum):
        kind, flags, offset, vaddr, _, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", elf, phoff + i * phentsize)
        if kind == 1:
            found.append((flags, elf[offset:offset + filesz], vaddr, memsz))
    return found


class RiscV(SystemTest):
    def pack(self, program):
        image = self.root / "image"
        packed = self.ok(capctl("pack", "--elf", program, "-o", image))
        self.assertEqual(packed, self.ok(capctl("check", image)))
        self.assertEqual(packed["verdict"], "accepted")
        return image, packed

    def test_debian_programs(self):
        d = self.daemon()
        for program in PROGRAMS:
            with self.subTest(program):
                image, packed = self.pack(program)
                published = self.ok(d.capctl("publish", image))
                self.assertEqual(published["cap_hash"], packed["cap_hash"])
                out = self.root / "out"
                self.ok(d.capctl("get", packed["cap_hash"], "--content", "-o", out))
                code = next(bytes_ for flags, bytes_, _, _ in segments(program) if flags & 1)
                self.assertEqual(out.read_bytes()[:4096], code[:4096])
                self.assertEqual(self.ok(d.capctl("publish", image))["new"], False)

    def test_linked_to_the_layout(self):
        d = self.daemon()
        (self.root / "p.c").write_text(SOURCE)
        (self.root / "p.ld").write_text(SCRIPT)
        program = self.root / "p.elf"
        compiler = shutil.which("riscv64-linux-gnu-gcc")
        self.assertIsNotNone(compiler, "the RISC-V cross compiler is missing")
        subprocess.run([compiler, "-O1", "-nostdlib", "-static", "-ffreestanding", "-mcmodel=medany", "-Wl,--build-id=none",
                        "-T", self.root / "p.ld", "-o", program, self.root / "p.c"], check=True)
        image, packed = self.pack(program)
        self.assertEqual(packed["warnings"], [])
        self.ok(d.capctl("publish", image))

        shown = self.ok(d.capctl("show", packed["cap_hash"]))
        mapped = {int(mapping["start"], 16): mapping for mapping in shown["mappings"]}
        code, rodata, data = segments(program)
        self.assertEqual(code[2], CODE_BASE)
        self.assertEqual(int(shown["code"]["start"], 16), CODE_BASE)
        self.assertEqual(int(shown["endpoints"][0]["entry_pc"], 16), CODE_BASE)
        out = self.root / "out"
        self.ok(d.capctl("get", packed["cap_hash"], "--content", "-o", out))
        self.assertEqual(out.read_bytes(), code[1])

        for (_, content, vaddr, memsz), read_only in ((rodata, True), (data, False)):
            self.assertIn(vaddr, mapped)
            self.assertEqual(mapped[vaddr]["read_only"], read_only)
            self.assertGreaterEqual(int(mapped[vaddr]["size"], 16), memsz)
            cap_hash = mapped[vaddr]["cap_hash"]
            self.ok(d.capctl("get", cap_hash, "--content", "-o", out))
            fetched = out.read_bytes()
            self.assertEqual(fetched[:len(content)], content)
            self.assertEqual(fetched[len(content):].strip(b"\0"), b"")
        # The megabyte of zeros costs nothing.
        bss = mapped[data[2]]["cap_hash"]
        self.assertLess(self.ok(d.capctl("get", bss, "-o", out))["body_len"], 3 * 4096)


if __name__ == "__main__":
    unittest.main()
