"""The dashboard: scorecards and runs of Phase 4 in a browser, read from their files and from nothing else.

`server` starts it, `app` is the script that Streamlit runs; `scorecards`, `runs`, `layers` and `jobs` read and write
the files, and the modules named `..._pages` show them. A page holds no state that is not on disk, so that the program
can be killed and started again at any time. Texts from files are shown as text, never as Markdown or HTML.
"""
