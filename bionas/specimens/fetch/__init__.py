"""Downloading the collections: `bionas fetch bioscan5m`, `bioscan1m`, `insects1m`.

`command` is what the command line does; `catalogue` says what can be fetched and from where; `transfer` fetches one
file, resumed and checked; `archive` extracts; `links` fetches images a link each. Here only the rule for where the
images of Insect-1M lie, which a source needs without anything of the network.
"""

from bionas.specimens.fetch.names import insect_image_name, insect_image_names

__all__ = ["insect_image_name", "insect_image_names"]
