"""report.html: what one run has learnt, or how several compare, as one file that needs no other.

    page            which sections a page has, and how it is made to fit
    run_reader      a run folder, whatever state it is in; file_reader and evaluation_reader read its files
    charts          the charts of a run; metric_rows prepares their numbers, figures draws lines and layers
    completions     the lists of completions and of held-out problems
    hinted          what became of the problems that were asked with a hint
    comparison      what several runs have side by side
    html            a whole HTML page with its data and scripts; the templates are in templates/

To add a chart, add a `Chart` to `charts.CHARTS`. To add a section, add a template and a line with a `Section` to the
list in `page._sections`.
"""
