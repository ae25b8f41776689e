/*
 * A program to run, not for this machine: where in a long text is a line? The file "numbers", whose
 * lines are sorted and of 8 bytes each, becomes a part of it.
 *
 *     seq -w 2000000 >numbers
 *     riscv64-linux-gnu-gcc -march=rv64i -mabi=lp64 -O1 -static -nostdlib -ffreestanding \
 *         -mcmodel=medany -T client/javm.ld client/examples/find_line.c -o find_line
 */
__asm__(".section .rodata\nbegin: .incbin \"numbers\"\nend:\n.text");
extern const char begin[], end[];

#define LINE 8 /* bytes */

static int is_before(const char *line, const char *wanted)
{
    for (int i = 0; i < LINE - 1; i++) {
        if (line[i] != wanted[i]) {
            return line[i] < wanted[i];
        }
    }
    return 0;
}

/* Ends with the line's number, counted from 1, in a0. */
void _start(void)
{
    unsigned long low = 0;
    unsigned long high = (unsigned long)(end - begin) / LINE;
    while (low < high) {
        unsigned long middle = (low + high) / 2;
        if (is_before(begin + middle * LINE, "1234567")) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    register unsigned long a0 __asm__("a0") = low + 1;
    __asm__ volatile("ecall" : : "r"(a0));
    __builtin_unreachable();
}
