//! `walferry maintain`: one pass over the queue's parts, and what it did.
//!
//! Not here: the pass itself, which a running instance makes as well (`storage::queue::maintain`).

use super::error::CommandError;
use super::output::say;
use super::session::connect;
use crate::config::Config;
use crate::storage::audit;
use crate::storage::queue::maintain::{MaintainError, Maintained, Maintainer};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) dry_run: bool,
    pub(super) recount: bool,
}

pub(super) async fn run(config: &Config, options: Options) -> Result<(), CommandError> {
    let session = connect(config).await?;
    let maintainer = Maintainer::begin(&session.client, None).await?;
    let retention = config.queue.completed_retention;
    let pass = async {
        let done = match options.dry_run {
            true => maintainer.plan(retention).await?,
            false => {
                let done = maintainer.run(retention).await?;
                audit::prune(&session.client, config.queue.audit_retention).await?;
                done
            }
        };
        let off = match options.recount {
            true => Some(maintainer.recount(!options.dry_run).await?),
            false => None,
        };
        Ok::<_, MaintainError>((done, off))
    };
    let (done, off) = pass.await?;
    maintainer.release().await.map_err(MaintainError::Queue)?;
    Ok(say(&describe(&done, off, options.dry_run))?)
}

fn describe(done: &Maintained, off: Option<u64>, dry_run: bool) -> String {
    let mut lines = Vec::new();
    if done.made > 0 {
        lines.push(format!("{} day part(s) made ahead", done.made));
    }
    for (day, moved) in &done.dropped {
        let rest = match moved {
            0 => String::new(),
            moved => format!("; {moved} unfinished or failed job(s) moved to the default part"),
        };
        lines.push(format!("{day}: part dropped{rest}"));
    }
    for (day, jobs) in &done.kept {
        lines.push(format!("{day}: part stays, {jobs} jobs of it are unfinished or failed"));
    }
    if done.deleted > 0 {
        lines.push(format!("{} completed job(s) deleted from parts that stay", done.deleted));
    }
    match off {
        Some(0) => lines.push("the statistics equal the rows".to_owned()),
        Some(off) => lines.push(format!("the statistics were off by {off}; mended")),
        None => {}
    }
    if lines.is_empty() {
        lines.push("nothing to do".to_owned());
    }
    if dry_run {
        lines.insert(0, "dry run, nothing was altered; a real one would say:".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_told_in_a_few_lines() {
        assert_eq!(describe(&Maintained::default(), None, false), "nothing to do");
        let done = Maintained {
            made: 2,
            dropped: vec![("2026-01-01".into(), 0), ("2026-01-02".into(), 3)],
            kept: vec![("2026-01-03".into(), 9000)],
            deleted: 7,
        };
        let expected = "2 day part(s) made ahead\n\
            2026-01-01: part dropped\n\
            2026-01-02: part dropped; 3 unfinished or failed job(s) moved to the default part\n\
            2026-01-03: part stays, 9000 jobs of it are unfinished or failed\n\
            7 completed job(s) deleted from parts that stay\n\
            the statistics equal the rows";
        assert_eq!(describe(&done, Some(0), false), expected);
        let dry = describe(&Maintained::default(), Some(4), true);
        assert!(dry.starts_with("dry run"), "{dry}");
    }
}
