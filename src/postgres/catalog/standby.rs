//! Whether walferry's WAL sender counts as a synchronous standby (`synchronous_standby_names`).
//!
//! Commits of the application wait for a synchronous standby. walferry confirms a commit only after
//! commits of its own, which would wait for it too. The name `*` matches every WAL sender, so the
//! only protection is not to stream.
//!
//! Not here: the wait until the setting is mended (`engine::run`).

use tokio_postgres::{Client, Error};

use crate::postgres::{Disposition, Recovery};

/// What every `application_name` of walferry's sessions begins with.
const OWN_PREFIX: &str = "walferry/";

const READ: &str = include_str!("standby.sql");

/// The setting, and the WAL senders that fulfil it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynchronousReplication {
    /// `synchronous_standby_names`.
    pub names: String,
    /// The priorities of the synchronous standbys of other roles and programs that are visible.
    pub other_priorities: Vec<i32>,
    /// `sync_state` of walferry's own WAL sender, if it streams.
    pub own_state: Option<String>,
}

/// What the setting makes of walferry's WAL sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyRole {
    /// No commit waits for it.
    Asynchronous,
    /// No commit waits for it while the standbys named before it are connected.
    Potential,
    /// Commits wait for it.
    Synchronous,
}

/// Commits would wait for walferry.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "synchronous_standby_names = '{names}' makes walferry a synchronous standby, and commits would \
     wait for it; name the standbys there without walferry, such as \
     `alter system set synchronous_standby_names = 'FIRST 1 (replica1)'`, and run \
     `select pg_reload_conf()`"
)]
pub struct SynchronousStandby {
    pub names: String,
}

impl Recovery for SynchronousStandby {
    fn disposition(&self) -> Disposition {
        Disposition::Operator
    }
}

/// Reads the setting and the WAL senders. `own_sender` is the application name of walferry's own,
/// empty while there is none.
///
/// # Errors
/// The error of the query.
pub async fn inspect(client: &Client, own_sender: &str) -> Result<SynchronousReplication, Error> {
    let row = client.query_one(READ, &[&own_sender]).await?;
    Ok(SynchronousReplication {
        names: row.try_get("names")?,
        other_priorities: row.try_get("other_priorities")?,
        own_state: row.try_get("own_state")?,
    })
}

impl SynchronousReplication {
    /// What the setting makes of walferry's WAL sender. While it does not stream, another standby
    /// of the same priority is no protection: the server chooses between them.
    #[must_use]
    pub fn role(&self) -> StandbyRole {
        match (self.own_state.as_deref(), self.by_setting()) {
            (Some("sync" | "quorum"), _) => StandbyRole::Synchronous,
            (_, role) => role,
        }
    }

    /// Refuses a setting under which commits would wait for walferry.
    ///
    /// # Errors
    /// [`SynchronousStandby`].
    pub fn verify(&self) -> Result<(), SynchronousStandby> {
        match self.role() {
            StandbyRole::Asynchronous | StandbyRole::Potential => Ok(()),
            StandbyRole::Synchronous => Err(SynchronousStandby { names: self.names.clone() }),
        }
    }

    fn by_setting(&self) -> StandbyRole {
        let setting = StandbyNames::parse(&self.names);
        let own = setting.names.iter().position(|name| is_own(name));
        let Some(own) = own.and_then(|place| i32::try_from(place + 1).ok()) else {
            return StandbyRole::Asynchronous;
        };
        let before = self.other_priorities.iter().filter(|priority| **priority < own).count();
        if !setting.is_quorum && before >= setting.count {
            StandbyRole::Potential
        } else {
            StandbyRole::Synchronous
        }
    }
}

/// The server compares without regard to case.
fn is_own(name: &str) -> bool {
    name == "*" || name.to_ascii_lowercase().starts_with(OWN_PREFIX)
}

/// `synchronous_standby_names`, which the server has checked: `name, …`, `n (name, …)`,
/// `FIRST n (name, …)` or `ANY n (name, …)`.
#[derive(Debug, PartialEq, Eq)]
struct StandbyNames {
    is_quorum: bool,
    count: usize,
    names: Vec<String>,
}

impl StandbyNames {
    fn parse(setting: &str) -> Self {
        let setting = setting.trim();
        let (head, list) = match setting.split_once('(') {
            // A parenthesis within quotes is part of a name.
            Some((head, list)) if !head.contains('"') => {
                (head, list.trim_end().strip_suffix(')').unwrap_or(list))
            }
            _ => ("", setting),
        };
        let mut words = head.split_whitespace();
        let is_quorum = head.trim_start().to_ascii_lowercase().starts_with("any");
        let count = words.next_back().and_then(|count| count.parse().ok()).unwrap_or(1);
        Self { is_quorum, count, names: names(list) }
    }
}

/// Names separated by commas; within quotes, `""` is a quote.
fn names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut quoted = false;
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        let last = names.len() - 1;
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => names[last].push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(String::new()),
            _ if !quoted && character.is_whitespace() => {}
            _ => names[last].push(character),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use StandbyRole::{Asynchronous, Potential, Synchronous};

    #[track_caller]
    fn check(names: &str, other_priorities: &[i32], own_state: Option<&str>, role: StandbyRole) {
        let found = SynchronousReplication {
            names: names.to_owned(),
            other_priorities: other_priorities.to_vec(),
            own_state: own_state.map(str::to_owned),
        };
        assert_eq!(found.role(), role, "{found:?}");
        assert_eq!(found.verify().is_err(), role == Synchronous);
    }

    #[test]
    fn a_star_or_an_own_name_makes_walferry_a_standby() {
        check("", &[], None, Asynchronous);
        check("replica1, replica2", &[], None, Asynchronous);
        check("*", &[], None, Synchronous);
        check("\"*\"", &[], None, Synchronous);
        check("2 (a, b, *)", &[1], None, Synchronous);
        check("\"Walferry/app/7/stream\"", &[], None, Synchronous);
        check("\"a*\", \"b\"\"*\"", &[], None, Asynchronous);
        check("\"x (y\", *", &[], None, Synchronous);
    }

    #[test]
    fn standbys_named_before_it_keep_it_from_being_chosen() {
        check("FIRST 1 (replica1, *)", &[1], None, Potential);
        check("FIRST 1 (replica1, *)", &[], None, Synchronous);
        check("first 2 (a, b, *)", &[1, 2], Some("potential"), Potential);
        check("first 2 (a, b, *)", &[1], None, Synchronous);
        // Of equal priorities the server chooses.
        check("*", &[1], Some("potential"), Synchronous);
        check("a, *", &[1], None, Potential);
    }

    #[test]
    fn a_quorum_counts_every_standby() {
        check("ANY 1 (replica1, *)", &[1], None, Synchronous);
        check("any 1 (replica1, replica2)", &[1], None, Asynchronous);
    }

    #[test]
    fn the_server_has_the_last_word_on_a_sender_that_streams() {
        check("", &[], Some("sync"), Synchronous);
        check("replica1", &[], Some("quorum"), Synchronous);
        check("replica1", &[], Some("async"), Asynchronous);
    }
}
