#!/bin/sh
# Kafka's tool of this name, for a broker that `make kafka` has started: its class path is there already.
set -e
class_path=$(cat "$(dirname "$0")/../../build/kafka/class_path")
exec java -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$class_path" \
  org.apache.kafka.tools.TransactionsCommand "$@"
