"""From a recipe to objects: the only place where a name becomes a class.

Every choice is a visible `match` or `if` on a recipe value. Nothing below this package knows the recipe.

    machine     device and threads          data        sources and loaders
    model       networks and objective      job         a run, put together and started
    evaluation  features and online kNN     plan        what a run would be (--dry-run)
    finished    a run read back             probing     kNN and linear evaluation of one
"""
