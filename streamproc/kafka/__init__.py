"""The log on Apache Kafka.

kafka_log        Log on a cluster: topics, plain reads, groups from outside
  membership     a member of a consumer group: what the worker is told of it
    session      what it asks of the coordinator: join, sync, heartbeats, leave; when it counts as dead
    leadership   the leader's part of a generation: share out, fence who is gone
    assignment, consumer_protocol     who gets which task: sticky, even, one answer; how that travels
  kafka_source   Source: the member says what may be read, the fetcher has read it already
    fetching     reads ahead, a bounded amount for each partition
  kafka_sink     Sink: an epoch under the membership in force when it began, written by one of these
    transaction  an epoch as one transaction: send, commit offsets, end
    acknowledged at least once, without one
    producing    records: packed, numbered, repeated until acknowledged
    committing   offsets: under a membership, repeated until taken
    rejections   what would be refused again, and the way out
  offsets        where partitions begin and end, where groups are, why a partition cannot be read
  calls          a request repeated until a deadline; which answers are worth a repetition
  open_cluster   a cluster that was closed says so
  patience       what takes long is said
requests         the door: one message a Kafka API, and the Cluster that answers them
  aiokafka_cluster         the door on aiokafka's connections
    exchange, *_messages   each request in Kafka's words: to whom, what is sent, how the answer is read
    directory              who leads and coordinates
    connections            any number to each broker, one request at a time on each
    bootstrap              the first contact
    client_settings        the setting `kafka`
    wire                   versions of messages that aiokafka lacks
    columns, batches       records from what is read, and for what is sent
  (streamproc.testing.simulation is the same door on a simulated cluster)
"""
