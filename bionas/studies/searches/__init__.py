"""Which search is worth its minutes: every strategy under the same core-minutes, search and final training together.

study       rates of this machine, one search and its final training, the stopping rule
intervals   bootstrap over searches and test photographs
tables      runs and summary as data frames
command     `bionas searches`
"""
