//! A replication session: connecting, its few commands, and the start of the stream.
//!
//! One session serves one slot. Replication commands take no parameters, so names are put into
//! them here, quoted; nothing else builds such a command.
//!
//! Not here: the stream's loop and its feedback (`engine::wal::stream`).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::{
    BACKEND_KEY_DATA_TAG, COMMAND_COMPLETE_TAG, COPY_DATA_TAG, COPY_DONE_TAG, DATA_ROW_TAG,
    EMPTY_QUERY_RESPONSE_TAG, PARAMETER_STATUS_TAG, READY_FOR_QUERY_TAG, ROW_DESCRIPTION_TAG,
};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use crate::change::Lsn;
use crate::config::Database;
use crate::engine::wal::authentication::{Credentials, authenticate};
use crate::engine::wal::error::ReplicationError;
use crate::engine::wal::open::{Target, open, targets};
use crate::engine::wal::wire::Wire;
use crate::postgres::catalog::slot::SystemIdentity;
use crate::postgres::{quote_identifier, startup_options};

/// CopyBothResponse, which only replication has.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';
/// Our `wal_sender_timeout` where the server has none: else it would keep the slot for a dead
/// client until TCP gives up.
const SENDER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// A replication session that takes commands.
pub struct Replication {
    wire: Wire,
    sender_timeout: Duration,
}

impl Replication {
    /// Connects to the first host that answers and is no standby.
    ///
    /// # Errors
    /// [`ReplicationError`] of the last host tried.
    pub async fn connect(
        database: &Database,
        application_name: &str,
    ) -> Result<Self, ReplicationError> {
        let targets = targets(&database.connect);
        let several = targets.len() > 1;
        let mut failure = ReplicationError::Closed;
        for target in targets {
            let attempt = Self::connect_to(&target, database, application_name, several);
            match timeout(database.connect_timeout, attempt).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = ReplicationError::Timeout(database.connect_timeout),
            }
        }
        Err(failure)
    }

    async fn connect_to(
        target: &Target,
        database: &Database,
        application_name: &str,
        several: bool,
    ) -> Result<Self, ReplicationError> {
        let opened = open(target, database).await?;
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
        let password = config.get_password();
        let (certificate_hash, encrypted) = (opened.certificate_hash, opened.encrypted);
        authenticate(&mut wire, &Credentials { user, password, certificate_hash, encrypted })
            .await?;
        let mut session = Self { wire, sender_timeout: SENDER_TIMEOUT_DEFAULT };
        session.until_ready().await?;
        if several && session.value("select pg_is_in_recovery()").await? == "t" {
            return Err(ReplicationError::Standby(target.to_string()));
        }
        session.settle_sender_timeout().await?;
        Ok(session)
    }

    /// The `wal_sender_timeout` in force for this session.
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
        let wrong = || ReplicationError::Unexpected("the answer to IDENTIFY_SYSTEM");
        let column = |index: usize| {
            rows.first().and_then(|row| row.get(index)?.as_deref()).ok_or_else(wrong)
        };
        Ok(SystemIdentity {
            system_identifier: column(0)?.to_owned(),
            timeline: column(1)?.parse().map_err(|_| wrong())?,
            wal_end: column(2)?.parse().map_err(|_| wrong())?,
        })
    }

    /// Creates a logical slot for `pgoutput`; gives its consistent point. It waits for every
    /// running transaction to end: the caller bounds the wait, and drops the session after it,
    /// whereupon the server drops the half-made slot.
    ///
    /// # Errors
    /// [`ReplicationError`]; SQLSTATE 42710 where the slot exists.
    pub async fn create_slot(&mut self, slot: &str) -> Result<Lsn, ReplicationError> {
        let slot = quote_identifier(slot);
        // The grammar of 14, which later versions still take.
        let command = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        let rows = self.query(&command).await?;
        rows.first()
            .and_then(|row| row.get(1)?.as_deref()?.parse().ok())
            .ok_or(ReplicationError::Unexpected("the slot's consistent point"))
    }

    /// Runs a command of SQL or of replication by the simple protocol; values as text.
    ///
    /// # Errors
    /// [`ReplicationError`]; after an error of the server the session can be used again.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        frontend::query(sql, &mut self.wire.output)?;
        self.wire.flush().await?;
        let mut rows = Vec::new();
        loop {
            let frame = match self.wire.frame().await {
                Ok(frame) => frame,
                Err(ReplicationError::Server(error)) => {
                    self.until_ready().await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error),
            };
            match frame.tag {
                DATA_ROW_TAG => rows.push(data_row(&frame.body)?),
                READY_FOR_QUERY_TAG => return Ok(rows),
                ROW_DESCRIPTION_TAG
                | COMMAND_COMPLETE_TAG
                | EMPTY_QUERY_RESPONSE_TAG
                | PARAMETER_STATUS_TAG => {}
                _ => return Err(ReplicationError::Unexpected("a row")),
            }
        }
    }

    /// Starts the slot's stream. The server begins at `start` or where the slot is confirmed,
    /// whichever is later, and does not say so: compare the slot after this as well.
    ///
    /// # Errors
    /// [`ReplicationError`]: 42704 no such slot, 55006 somebody else reads it, 55000 its WAL is
    /// gone.
    pub async fn start(
        mut self,
        slot: &str,
        start: Lsn,
        publication: &str,
    ) -> Result<ReplicationStream, ReplicationError> {
        let (slot, publication) = (quote_identifier(slot), quote_identifier(publication));
        // A list of identifiers, inside a literal.
        let publication = publication.replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {slot} LOGICAL {start} \
             (proto_version '1', publication_names '{publication}')"
        );
        frontend::query(&command, &mut self.wire.output)?;
        self.wire.flush().await?;
        match self.wire.frame().await?.tag {
            COPY_BOTH_RESPONSE_TAG => Ok(ReplicationStream {
                wire: self.wire,
                sender_timeout: self.sender_timeout,
                start,
            }),
            _ => Err(ReplicationError::Unexpected("the start of the stream")),
        }
    }

    async fn settle_sender_timeout(&mut self) -> Result<(), ReplicationError> {
        let milliseconds = self
            .value("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'")
            .await?;
        let found = milliseconds.parse().map_or(SENDER_TIMEOUT_DEFAULT, Duration::from_millis);
        if found.is_zero() {
            let seconds = SENDER_TIMEOUT_DEFAULT.as_secs();
            self.query(&format!("set wal_sender_timeout = '{seconds}s'")).await?;
        } else {
            self.sender_timeout = found;
        }
        Ok(())
    }

    async fn value(&mut self, sql: &str) -> Result<String, ReplicationError> {
        let rows = self.query(sql).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.ok_or(ReplicationError::Unexpected("a value"))
    }

    async fn until_ready(&mut self) -> Result<(), ReplicationError> {
        loop {
            match self.wire.frame().await?.tag {
                READY_FOR_QUERY_TAG => return Ok(()),
                PARAMETER_STATUS_TAG | BACKEND_KEY_DATA_TAG => {}
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
    start: Lsn,
}

impl std::fmt::Debug for ReplicationStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicationStream").field("start", &self.start).finish_non_exhaustive()
    }
}

impl ReplicationStream {
    /// The `wal_sender_timeout` in force.
    #[must_use]
    pub fn sender_timeout(&self) -> Duration {
        self.sender_timeout
    }

    /// What was asked of START_REPLICATION.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        self.start
    }

    /// The next CopyData that has arrived whole.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, ReplicationError> {
        match self.wire.buffered()? {
            None => Ok(None),
            Some(frame) if frame.tag == COPY_DATA_TAG => Ok(Some(frame.body)),
            Some(frame) if frame.tag == PARAMETER_STATUS_TAG => self.buffered(),
            Some(frame) if frame.tag == COPY_DONE_TAG => Err(ReplicationError::Closed),
            Some(_) => Err(ReplicationError::Unexpected("CopyData")),
        }
    }

    /// Reads what there is. Cancel safe.
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
        // The client's clock, for display only; the server's own views show it as it came.
        body.put_i64(0);
        body.put_u8(u8::from(reply_requested));
        frontend::CopyData::new(body.freeze())?.write(&mut self.wire.output);
        // A server that reads nothing for that long is dead.
        let patience = self.sender_timeout;
        timeout(patience, self.wire.flush())
            .await
            .map_err(|_| ReplicationError::Timeout(patience))?
    }

    /// Ends the stream in good order: CopyDone, the server's answer, Terminate.
    pub(crate) async fn close(mut self) -> Result<(), ReplicationError> {
        frontend::copy_done(&mut self.wire.output);
        self.wire.flush().await?;
        while self.wire.frame().await?.tag != READY_FOR_QUERY_TAG {}
        frontend::terminate(&mut self.wire.output);
        self.wire.flush().await?;
        self.wire.shutdown().await
    }
}

fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, ReplicationError> {
    let mut reader = crate::engine::wal::pgoutput::Reader::new(body);
    let wrong = |_| ReplicationError::Unexpected("a row");
    let count = reader.u16().map_err(wrong)?;
    (0..count)
        .map(|_| {
            Ok(match reader.u32().map_err(wrong)? {
                u32::MAX => None,
                length => {
                    let text = reader.bytes(length as usize).map_err(wrong)?;
                    Some(String::from_utf8_lossy(text).into_owned())
                }
            })
        })
        .collect()
}
