"""A Kafka cluster in memory and in virtual time: one seed, one history of delays, losses, crashes and stops.

simulate         an app in a world, on given records
world            the workers of an app, the cluster, and another program that writes to it
  processes, slot, disks   workers as processes in slots with disks
  trouble, weather         what befalls them
  outsider                 the other program
  history                  what happened

virtual_time     the event loop on which nothing waits, and its clock
process          what crashes and stops, and numbers its calls to the world
cluster          the cluster: clients, and what may befall it from outside
  client, batches        Cluster, the door of one process
  network, refusals      between clients and broker: delays, losses, repetitions
  faults                 how often what goes wrong
broker           answers requests; all that is durable is below here
  topics                 topics and their configuration
  leader, waiting_fetch  Produce, Fetch, ListOffsets, DeleteRecords
    partition_log, producer_state, retention     one partition
  transactions           the transaction coordinator
  group_coordinator
    classic_group, group_members, group_offsets  one group
"""

from streamproc.testing.given import Record
from streamproc.testing.simulation.faults import Faults
from streamproc.testing.simulation.history import History
from streamproc.testing.simulation.simulate import Outcome, simulate
from streamproc.testing.simulation.virtual_time import Deadlock, Livelock
from streamproc.testing.simulation.weather import CALM, ROUGH, Weather
from streamproc.testing.simulation.world import Hangs, World

__all__ = [
    "CALM",
    "ROUGH",
    "Deadlock",
    "Faults",
    "Hangs",
    "History",
    "Livelock",
    "Outcome",
    "Record",
    "Weather",
    "World",
    "simulate",
]
