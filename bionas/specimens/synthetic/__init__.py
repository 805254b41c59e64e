"""Drawing insects: the pictures of the synthetic collection.

Nothing here is a photograph. `bodyplans` and `taxa` say what orders and families look like (a `Look` each), `plan`
turns a family into one individual in one pose, `anatomy`, `wings` and `coverings` draw its parts on a `Canvas`, and
`photograph` lays it on the floor of a well plate under a microscope's light. `plan_specimen` and `draw` are the two
verbs; the same plan gives the same picture at every size.
"""

from bionas.specimens.synthetic.photograph import draw
from bionas.specimens.synthetic.plan import Individual, plan_specimen
from bionas.specimens.synthetic.taxa import ORDERS, Family, Order

__all__ = ["ORDERS", "Family", "Individual", "Order", "draw", "plan_specimen"]
