//! A replication session: connecting, its commands, and the start of the stream.
//!
//! One session serves one slot. Replication commands have no parameters: names are inserted here,
//! quoted, and nowhere else.
//!
//! Not here: the stream's loop and its feedback (`engine::wal::stream`).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::{
    BACKEND_KEY_DATA_TAG, COMMAND_COMPLETE_TAG, COPY_DATA_TAG, COPY_DONE_TAG, DATA_ROW_TAG,
    EMPTY_QUERY_RESPONSE_TAG, PARAMETER_STATUS_TAG, READY_FOR_QUERY_TAG, ROW_DESCRIPTION_TAG,
};
use postgres_protocol::message::frontend;
use tokio::time::{Instant, timeout};

use crate::change::Lsn;
use crate::config::Database;
use crate::engine::wal::authentication::{RoleCredentials, authenticate};
use crate::engine::wal::error::ReplicationError;
use crate::engine::wal::open::open;
use crate::engine::wal::pgoutput::ByteReader;
use crate::engine::wal::wire::Wire;
use crate::postgres::catalog::slot::SystemIdentity;
use crate::postgres::host::{self, HostAddress, HostAddresses, TimeShares};
use crate::postgres::{quote_identifier, startup_options};

/// CopyBothResponse, which only replication sessions receive.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';
/// The longest `wal_sender_timeout` of the session. With a longer one, or none, the server would
/// keep the slot active for a dead client until TCP times out.
const SENDER_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A replication session that accepts commands.
pub struct Replication {
    wire: Wire,
    sender_timeout: Duration,
    /// The process id of the server's end.
    sender_pid: i32,
}

impl Replication {
    /// Connects to the first host that responds and is not a standby.
    ///
    /// # Errors
    /// [`ReplicationError`] of the last host tried.
    pub async fn connect(
        database: &Database,
        application_name: &str,
    ) -> Result<Self, ReplicationError> {
        let config = &database.connect;
        let limit = database.connect_timeout;
        let begun = Instant::now();
        let HostAddresses { found, mut unknown } = host::resolve(config, limit).await;
        let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
        let mut failure =
            unknown.pop().map_or(ReplicationError::Closed, |unknown| unknown.reason.into());
        let mut shares = TimeShares::new(begun, limit, found.len());
        for host in found {
            let attempt = Self::connect_to(&host, database, application_name, several);
            let share = shares.next(Instant::now());
            match timeout(share, attempt).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = ReplicationError::Timeout(share),
            }
        }
        Err(failure)
    }

    async fn connect_to(
        host: &HostAddress,
        database: &Database,
        application_name: &str,
        several: bool,
    ) -> Result<Self, ReplicationError> {
        let opened = open(host, database).await?;
        let mut wire = Wire::new(opened.socket);
        let config = &database.connect;
        let user = config.get_user().unwrap_or("postgres");
        let options = startup_options(config.get_options());
        let parameters = [
            ("client_encoding", "UTF8"),
            ("user", user),
            ("database", config.get_dbname().unwrap_or(user)),
            ("replication", "database"),
            ("application_name", application_name),
            ("options", &options),
        ];
        frontend::startup_message(parameters, &mut wire.output)?;
        wire.flush().await?;
        let credentials = RoleCredentials {
            user,
            password: config.get_password(),
            certificate_hash: opened.certificate_hash,
            encrypted: opened.encrypted,
            binding: config.get_channel_binding(),
        };
        authenticate(&mut wire, &credentials).await?;
        let mut session = Self { wire, sender_timeout: SENDER_TIMEOUT_MAX, sender_pid: 0 };
        session.ready_for_query().await?;
        if several && session.value("select pg_is_in_recovery()").await? == "t" {
            return Err(ReplicationError::Standby(host.to_string()));
        }
        session.set_limits().await?;
        Ok(session)
    }

    /// The process id of the server's end.
    #[must_use]
    pub fn sender_pid(&self) -> i32 {
        self.sender_pid
    }

    /// The `wal_sender_timeout` of this session.
    #[must_use]
    pub fn sender_timeout(&self) -> Duration {
        self.sender_timeout
    }

    /// System identifier, timeline and the end of the WAL.
    ///
    /// # Errors
    /// [`ReplicationError`].
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, ReplicationError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let unexpected = || ReplicationError::Unexpected("the answer to IDENTIFY_SYSTEM");
        let row = rows.first().map(Vec::as_slice);
        let Some([Some(system_identifier), Some(timeline), Some(wal_end), ..]) = row else {
            return Err(unexpected());
        };
        Ok(SystemIdentity {
            system_identifier: system_identifier.clone(),
            timeline: timeline.parse().map_err(|_| unexpected())?,
            wal_end: wal_end.parse().map_err(|_| unexpected())?,
        })
    }

    /// Creates a logical slot for `pgoutput`; returns its consistent point. The command waits until
    /// every running transaction has ended. The caller limits the wait and drops the session after
    /// it, upon which the server drops the incomplete slot.
    ///
    /// # Errors
    /// [`ReplicationError`]; SQLSTATE 42710 if the slot exists.
    pub async fn create_slot(&mut self, slot: &str) -> Result<Lsn, ReplicationError> {
        let slot = quote_identifier(slot);
        // The grammar of version 14, which later versions accept too.
        let command = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        let rows = self.query(&command).await?;
        let consistent_point = match rows.first().map(Vec::as_slice) {
            Some([_slot_name, Some(consistent_point), ..]) => consistent_point.parse().ok(),
            _ => None,
        };
        consistent_point.ok_or(ReplicationError::Unexpected("the slot's consistent point"))
    }

    /// Executes an SQL or replication command by the simple protocol; values are text.
    ///
    /// # Errors
    /// [`ReplicationError`]; after an error of the server the session remains usable.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        frontend::query(sql, &mut self.wire.output)?;
        self.wire.flush().await?;
        let mut rows = Vec::new();
        loop {
            let message = match self.wire.message().await {
                Ok(message) => message,
                Err(ReplicationError::Server(error)) => {
                    self.ready_for_query().await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error),
            };
            match message.tag {
                DATA_ROW_TAG => rows.push(data_row(&message.body)?),
                READY_FOR_QUERY_TAG => return Ok(rows),
                ROW_DESCRIPTION_TAG
                | COMMAND_COMPLETE_TAG
                | EMPTY_QUERY_RESPONSE_TAG
                | PARAMETER_STATUS_TAG => {}
                _ => return Err(ReplicationError::Unexpected("a row")),
            }
        }
    }

    /// Starts the slot's stream. The server begins at `start` or at the slot's confirmed position,
    /// at the later one, and does not report which: the caller compares the slot again after this.
    ///
    /// # Errors
    /// [`ReplicationError`]; SQLSTATE 42704 if the slot does not exist, 55006 if it is active, 55000
    /// if its WAL has been removed.
    pub async fn start(
        mut self,
        slot: &str,
        start: Lsn,
        publication: &str,
    ) -> Result<ReplicationStream, ReplicationError> {
        let slot = quote_identifier(slot);
        // A list of identifiers within a literal.
        let publication = quote_identifier(publication).replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {slot} LOGICAL {start} \
             (proto_version '1', publication_names '{publication}')"
        );
        frontend::query(&command, &mut self.wire.output)?;
        self.wire.flush().await?;
        match self.wire.message().await?.tag {
            COPY_BOTH_RESPONSE_TAG => Ok(ReplicationStream {
                wire: self.wire,
                sender_timeout: self.sender_timeout,
                sender_pid: self.sender_pid,
                start,
            }),
            _ => Err(ReplicationError::Unexpected("the start of the stream")),
        }
    }

    /// Reads `wal_sender_timeout`, and sets it if it is longer than it may be, or off. A transaction
    /// gets no time limit, also if the role has one: the decoding of a large one may take hours.
    async fn set_limits(&mut self) -> Result<(), ReplicationError> {
        let milliseconds = self
            .value("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'")
            .await?;
        let found = milliseconds.parse().map_or(SENDER_TIMEOUT_MAX, Duration::from_millis);
        if found.is_zero() || found > SENDER_TIMEOUT_MAX {
            let seconds = SENDER_TIMEOUT_MAX.as_secs();
            self.query(&format!("set wal_sender_timeout = '{seconds}s'")).await?;
        } else {
            self.sender_timeout = found;
        }
        let unlimited = "select pg_catalog.set_config('transaction_timeout', '0', false)
            where pg_catalog.current_setting('transaction_timeout', true) <> '0'";
        self.query(unlimited).await.map(drop)
    }

    async fn value(&mut self, sql: &str) -> Result<String, ReplicationError> {
        let rows = self.query(sql).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.ok_or(ReplicationError::Unexpected("a value"))
    }

    /// Reads messages up to ReadyForQuery.
    async fn ready_for_query(&mut self) -> Result<(), ReplicationError> {
        loop {
            let message = self.wire.message().await?;
            match message.tag {
                READY_FOR_QUERY_TAG => return Ok(()),
                PARAMETER_STATUS_TAG => {}
                BACKEND_KEY_DATA_TAG => {
                    let unexpected = |_| ReplicationError::Unexpected("a process id");
                    let pid = ByteReader::new(&message.body).u32().map_err(unexpected)?;
                    self.sender_pid = pid.cast_signed();
                }
                _ => return Err(ReplicationError::Unexpected("ReadyForQuery")),
            }
        }
    }
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replication").finish_non_exhaustive()
    }
}

/// A slot's stream: CopyData in, standby status out.
pub struct ReplicationStream {
    wire: Wire,
    sender_timeout: Duration,
    sender_pid: i32,
    start: Lsn,
}

impl std::fmt::Debug for ReplicationStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicationStream").field("start", &self.start).finish_non_exhaustive()
    }
}

impl ReplicationStream {
    /// The `wal_sender_timeout` of the session.
    #[must_use]
    pub fn sender_timeout(&self) -> Duration {
        self.sender_timeout
    }

    /// The process id of the WAL sender.
    #[must_use]
    pub fn sender_pid(&self) -> i32 {
        self.sender_pid
    }

    /// The position requested by START_REPLICATION.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        self.start
    }

    /// The next CopyData that is complete in the buffer.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, ReplicationError> {
        match self.wire.buffered()? {
            None => Ok(None),
            Some(message) if message.tag == COPY_DATA_TAG => Ok(Some(message.body)),
            Some(message) if message.tag == PARAMETER_STATUS_TAG => self.buffered(),
            Some(message) if message.tag == COPY_DONE_TAG => Err(ReplicationError::Closed),
            Some(_) => Err(ReplicationError::Unexpected("CopyData")),
        }
    }

    /// Reads the bytes that have arrived. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<(), ReplicationError> {
        self.wire.fill().await
    }

    /// Sends a standby status update: `received` as written, `durable` as flushed and applied.
    pub(crate) async fn send_status(
        &mut self,
        received: Lsn,
        durable: Lsn,
        reply_requested: bool,
    ) -> Result<(), ReplicationError> {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(received.0);
        body.put_u64(durable.0);
        body.put_u64(durable.0);
        // The client's time, which the server's views display unchanged.
        body.put_i64(0);
        body.put_u8(u8::from(reply_requested));
        frontend::CopyData::new(body.freeze())?.write(&mut self.wire.output);
        // A server that has not read for that long is regarded as dead.
        let limit = self.sender_timeout;
        timeout(limit, self.wire.flush()).await.map_err(|_| ReplicationError::Timeout(limit))?
    }

    /// Ends the stream by CopyDone, the server's response and Terminate.
    pub(crate) async fn close(mut self) -> Result<(), ReplicationError> {
        frontend::copy_done(&mut self.wire.output);
        self.wire.flush().await?;
        while self.wire.message().await?.tag != READY_FOR_QUERY_TAG {}
        frontend::terminate(&mut self.wire.output);
        self.wire.flush().await?;
        self.wire.shutdown().await
    }
}

fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, ReplicationError> {
    let mut reader = ByteReader::new(body);
    let unexpected = |_| ReplicationError::Unexpected("a row");
    let count = reader.u16().map_err(unexpected)?;
    (0..count)
        .map(|_| {
            Ok(match reader.u32().map_err(unexpected)? {
                u32::MAX => None,
                length => {
                    let text = reader.bytes(length as usize).map_err(unexpected)?;
                    Some(String::from_utf8_lossy(text).into_owned())
                }
            })
        })
        .collect()
}
