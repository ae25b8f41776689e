"""Line charts as plain SVG."""

import html
import math

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 84, 150, 44, 56
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#64748b")


def label_of(value):
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


class Axis:
    """Values to positions, linear from 0 or logarithmic, with round ticks."""

    def __init__(self, values, start, end, logarithmic):
        self.start, self.end, self.logarithmic = start, end, logarithmic
        most = max(values)
        if logarithmic:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.high = max(10 ** math.ceil(math.log10(most) - 1e-9), self.low * 10)
            decades = round(math.log10(self.high / self.low))
            self.ticks = [self.low * 10 ** i for i in range(decades + 1)]
        else:
            step = 10 ** math.floor(math.log10(most))
            step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 8)
            self.low, self.high = 0, math.ceil(most / step) * step
            self.ticks = [step * i for i in range(round(self.high / step) + 1)]

    def at(self, value):
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def text(x, y, words, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{html.escape(words)}</text>'


def draw(path, title, x_label, y_label, series, log_x=False, log_y=False):
    """Writes a chart. `series` is name -> [(x, y), ...]; a name that ends in " p99" is drawn dashed."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    across = Axis(xs, LEFT, WIDTH - RIGHT, log_x)
    up = Axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="12">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           text(LEFT, 24, title, "start", ' font-size="15" font-weight="bold"')]
    for tick in across.ticks:
        x = across.at(tick)
        out += [f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>',
                text(x, HEIGHT - BOTTOM + 18, label_of(tick))]
    for tick in up.ticks:
        y = up.at(tick)
        out += [f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>',
                text(LEFT - 8, y + 4, label_of(tick), "end")]
    out += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label),
            text(20, (TOP + HEIGHT - BOTTOM) / 2, y_label, "middle",
                 f' transform="rotate(-90 20 {(TOP + HEIGHT - BOTTOM) / 2:.1f})"')]
    colours = {}
    for number, (name, points) in enumerate(series.items()):
        base = name.removesuffix(" p99").removesuffix(" p50")
        colour = colours.setdefault(base, COLOURS[len(colours) % len(COLOURS)])
        dashes = ' stroke-dasharray="5 4"' if name.endswith(" p99") else ""
        line = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        out += [f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = TOP + 12 + 20 * number
        out += [f'<line x1="{WIDTH - RIGHT + 12}" y1="{y}" x2="{WIDTH - RIGHT + 40}" y2="{y}" stroke="{colour}" '
                f'stroke-width="2"{dashes}/>', text(WIDTH - RIGHT + 46, y + 4, name, "start")]
    path.write_text("\n".join(out) + "\n</svg>\n")
