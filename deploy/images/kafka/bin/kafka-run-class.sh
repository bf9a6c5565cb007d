#!/bin/bash
# Runs one of Kafka's classes, with the public image's variables: `kafka-run-class.sh [-archive NAME] CLASS [ARGUMENT...]`.
# An archive holds the loaded classes and saves most of the start; `kafka` is the broker's, `tools` everybody else's.
set -euo pipefail
home=/opt/kafka
archive=tools
if [ "$1" = -archive ]; then
    archive=$2
    shift 2
fi
if [ "$archive" = kafka ]; then
    level=${KAFKA_LOG4J_ROOT_LOGLEVEL:-info} output=System.out
    words="${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G} ${KAFKA_JVM_PERFORMANCE_OPTS:-} ${KAFKA_JMX_OPTS:-} ${KAFKA_OPTS:-}"
else
    level=${KAFKA_TOOLS_LOG4J_LOGLEVEL:-warn} output=System.err
    words="-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
fi
if [ -n "${ARCHIVE_TO:-}" ]; then
    words="$words -XX:ArchiveClassesAtExit=$ARCHIVE_TO"
elif [ -r "$home/$archive.jsa" ]; then
    words="$words -XX:SharedArchiveFile=$home/$archive.jsa"
fi
read -ra options <<<"$words"
libraries=$(printf '%s:' "$home"/libs/*.jar)
exec java "${options[@]}" -Djava.awt.headless=true \
    "-Dorg.slf4j.simpleLogger.logFile=$output" \
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=${level,,}" \
    -Dorg.slf4j.simpleLogger.showDateTime=true \
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX" \
    -cp "${libraries%:}" "$@"
