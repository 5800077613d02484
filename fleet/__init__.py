"""A real fleet on one machine: Apache Kafka, Postfix hosts, Dovecot, a mail sink and our own processes.

Each module starts and stops one part, as a context manager: on loopback, in a temporary folder, by process id.
The demo, the tests and the benchmarks all stand on these parts; nothing here is a stand-in. Postfix and Dovecot
need root.
"""
