package main

import (
	"fmt"
	"path/filepath"
)

// database is where the server's tables are.
const database = "authserver"

// patroniConfig is the file of one machine. The lease of 20 s is the shortest
// that Patroni allows; a leader that cannot renew it steps down within about
// 8 s, before anybody else may take it. A primary whose PostgreSQL dies is not
// waited for. With synchronous replication strict mode holds: rather no commit
// than one that stands on a single machine.
func (c *cluster) patroniConfig(name string) string {
	ip, dir := c.net.address(name), filepath.Join(c.dir, name)
	return fmt.Sprintf(`scope: lab
name: %[1]s
restapi:
  listen: %[2]s:8008
  connect_address: %[2]s:8008
etcd3:
  host: %[3]s:2379
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    primary_start_timeout: 0
    maximum_lag_on_failover: 1073741824
    synchronous_mode: %[4]t
    synchronous_mode_strict: %[4]t
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        max_connections: 100
        shared_buffers: 64MB
        wal_keep_size: 512MB
        wal_log_hints: "on"
        synchronous_commit: "on"
        fsync: "on"
        hot_standby: "on"
        wal_receiver_timeout: 10s
        wal_sender_timeout: 10s
        wal_retrieve_retry_interval: 1s
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums]
postgresql:
  listen: %[2]s:5432
  connect_address: %[2]s:5432
  bin_dir: %[5]s
  data_dir: %[6]s/data
  pgpass: %[6]s/pgpass
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  authentication:
    superuser: {username: postgres, password: %[7]s}
    replication: {username: replicator, password: %[7]s}
    rewind: {username: rewinder, password: %[7]s}
  parameters:
    unix_socket_directories: %[6]s
  pg_hba:
    - local all all trust
    - host replication replicator %[8]s0/24 scram-sha-256
    - host all all %[8]s0/24 scram-sha-256
`, name, ip, c.net.address(arbiter), c.synchronous, c.bin, dir, c.password, c.net.prefix)
}
