"""`duiit experiment`: methods x splits, each a training of its own, and the report that compares them.

    methods -> plan -> execution -> task (in a process of its own) -> results -> comparison -> report
"""
