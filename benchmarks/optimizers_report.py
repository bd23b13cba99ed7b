def markdown(*a):
    return ""


def figure(*a):
    return ""
