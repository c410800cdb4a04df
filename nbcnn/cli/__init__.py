"""The command line: one file a command, each loaded only when it is called. Nothing else in nbcnn talks to a
terminal.
"""
