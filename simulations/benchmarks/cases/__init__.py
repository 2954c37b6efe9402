"""The cases, a module each: `rows()` yields what it measures, its docstring says what that is.

Whatever stands in this package is a case: there is no list to add it to. One that is run only by
name, for it takes minutes or wants more of the machine, has a line `LONG = True`. Each runs in a
process of its own, on one thread. Ratios come from `clocks.by_turns` and `rows.ratio_row`, what a
process costs as a whole from `children.spent`.
"""
