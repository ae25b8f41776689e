"""One table of figures: for each row the rounds of capstore and of what it is compared with."""

import statistics

OURS = "capstore"


def spread(values):
    return f"{number(min(values))} to {number(max(values))}"


def number(value):
    """Four digits that matter."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


class Row:
    def __init__(self, label, goal=None, against=None):
        self.label = label
        self.goal = goal  # (">=" or "<=", figure)
        self.against = against  # names of those that the ratio is taken with; all others otherwise
        self.rounds = {}  # who -> one value per round
        self.details = {}  # who -> detail -> one value per round

    def add(self, who, value, **details):
        self.rounds.setdefault(who, []).append(value)
        kept = self.details.setdefault(who, {})
        for name, detail in details.items():
            kept.setdefault(name, []).append(detail)

    def median(self, who):
        return statistics.median(self.rounds[who])


class Table:
    """`ratio` says what the ratio of a row is: "rate", capstore's over the best of the others; "speed", the least time
    of the others over capstore's; "time", capstore's over the longest of the others."""

    def __init__(self, title, unit, ratio="rate", judges=True):
        self.title, self.unit, self.kind = title, unit, ratio
        self.judges = judges  # says whether a goal is reached
        self.rows = []
        self.notes = []

    def row(self, label, goal=None, against=None):
        for row in self.rows:
            if row.label == label:
                return row
        self.rows.append(Row(label, goal, against))
        return self.rows[-1]

    def ratio_of(self, ours, others):
        if self.kind == "speed":
            return min(others) / ours
        return ours / max(others)

    def ratios(self, row):
        """The ratio of the medians, and that of each round; None where there is nothing to compare."""
        others = [who for who in row.rounds if who != OURS and (row.against is None or who in row.against)]
        if OURS not in row.rounds or not others:
            return None
        whole = self.ratio_of(row.median(OURS), [row.median(who) for who in others])
        each = [self.ratio_of(ours, values)
                for ours, *values in zip(row.rounds[OURS], *(row.rounds[who] for who in others))]
        return whole, each

    def lines(self):
        yield f"{self.title} ({self.unit})"
        for row in self.rows:
            yield f"  {row.label}"
            for who, values in row.rounds.items():
                details = ", ".join(f"{name} {number(statistics.median(kept))}"
                                    for name, kept in row.details[who].items())
                yield f"    {who:<18} {number(row.median(who)):>12}   {spread(values):<24} {details}".rstrip()
            ratios = self.ratios(row)
            if ratios is not None:
                whole, each = ratios
                yield (f"    {'ratio':<18} {number(whole):>12}   {spread(each):<24} {self.judged(row, whole)}").rstrip()
            elif row.goal is not None:
                yield f"    {'':<18} {'':>12}   {'':<24} {self.judged(row, row.median(OURS))}"
        yield from (f"  {note}" for note in self.notes)

    def judged(self, row, figure):
        if row.goal is None:
            return ""
        sign, goal = row.goal
        if not self.judges:
            return f"goal {sign} {goal:g}"
        reached = figure >= goal if sign == ">=" else figure <= goal
        return f"goal {sign} {goal:g}: {'reached' if reached else 'missed'}"

    def json(self):
        rows = []
        for row in self.rows:
            ratios = self.ratios(row)
            rows.append({
                "label": row.label,
                "goal": row.goal and " ".join(map(str, row.goal)),
                "ratio": ratios and {"median": ratios[0], "rounds": ratios[1]},
                "values": {who: {"median": row.median(who), "rounds": values, "details": row.details[who]}
                           for who, values in row.rounds.items()},
            })
        return {"title": self.title, "unit": self.unit, "ratio": self.kind, "rows": rows, "notes": self.notes}


def markdown(table):
    """The lines of a table that Table.json made."""
    names = list(dict.fromkeys(who for row in table["rows"] for who in row["values"]))
    yield f"**{table['title']}** ({table['unit']})"
    yield ""
    yield "| | " + " | ".join(names) + " | ratio | of the rounds | goal | capstore besides |"
    yield "|---|" + "---|" * (len(names) + 4)
    for row in table["rows"]:
        cells = [row["label"]]
        for who in names:
            cells.append(number(row["values"][who]["median"]) if who in row["values"] else "")
        ratio = row["ratio"]
        cells += [number(ratio["median"]), spread(ratio["rounds"])] if ratio else ["", ""]
        cells.append(row["goal"] or "")
        details = row["values"].get(OURS, {"details": {}})["details"]
        cells.append(", ".join(f"{name} {number(statistics.median(kept))}" for name, kept in details.items()))
        yield "| " + " | ".join(cells) + " |"
    yield from (f"\n{note}" for note in table["notes"])
