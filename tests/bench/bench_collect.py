"""What collection costs beside a large store and beside a small one: the time and the pages of the garbage, not of it"""

LENGTH = 1024


def run(bench):
    garbage = bench.size(100_000, 500)
    few = bench.size(10_000, 100)
    many = bench.size(1_000_000, 1000)
    title = f"collection of {garbage} caps of 1 KiB"
    time = bench.table(f"{title}: processor time", "us per cap", ratio="time")
    pages = bench.table(f"{title}: written", "KiB per cap", ratio="time")
    time_row = time.row(f"beside {many} live ones; beside {few}", goal=("<=", 3.0))
    pages_row = pages.row(f"beside {many} live ones; beside {few}", goal=("<=", 3.0))
    for round_ in range(min(bench.rounds, 3)):
        for who, live in (("few", few), ("capstore", many)):
            told = bench.program("collect_speed", bench.path(f"{who}{round_}"), live, garbage, LENGTH)
            assert told["collected"] == garbage, told
            time_row.add(who, told["cpu"] / garbage * 1e6, slices=told["slices"], seconds=told["seconds"],
                         longest_slice_s=told["longest"])
            pages_row.add(who, told["written"] / garbage / 1024)
