"""The root of what the services refuse, so that a command or a view can tell it from a defect."""


class Refused(Exception):
    """A rule of the domain said no: an answer to the person who asked, not a defect."""
