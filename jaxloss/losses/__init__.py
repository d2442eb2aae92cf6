"""The families of losses, one file each; families never import one another.

Huber's loss is a robust one, and looked for among the regression losses as well: it answers there too.
"""

from jaxloss.losses import regression, robust

regression.huber = robust.huber  # pyright: ignore[reportAttributeAccessIssue]
