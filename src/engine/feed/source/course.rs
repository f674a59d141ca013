//! The feed's way through the table to the stream: which step comes next, and how far it has come.
//! Pure.
//!
//! One pass claims every job after the cursor, then works on what is due, and settles the end LSN
//! that was recorded before the pass began: every job below it has been claimed. Then the recorder
//! is asked to go live. Its answer has the position R of the last job that it has left to the
//! table. Only after the jobs up to R have been claimed too does the feed follow the stream.
//!
//! Not here: claiming and rendering (`table`, `due`), and the recorder's answer (`recorder`).

use crate::change::{Lsn, Position};

/// How far the sources of one run have come.
#[derive(Clone, Copy, Debug)]
pub struct FedPositions {
    /// The last change that any source has worked on, or that was recorded before the run.
    last: Position,
    /// The last end LSN that was given to a batch of the table.
    settled_end: Lsn,
}

impl FedPositions {
    /// `recorded` is the position of the last change that earlier runs recorded.
    #[must_use]
    pub fn new(recorded: Position) -> Self {
        Self { last: recorded, settled_end: Lsn(0) }
    }

    /// A source works on the change at this position.
    pub fn note(&mut self, position: Position) {
        self.last = self.last.max(position);
    }

    /// The last change that any source has worked on.
    #[must_use]
    pub fn last(&self) -> Position {
        self.last
    }

    /// Up to here jobs that are due may be worked on beside the stream. A job after the last change
    /// that the stream has delivered to the feed was captured since the recorder left live mode. It
    /// is left to the table: batches from before it may still wait in the live channel.
    #[must_use]
    pub fn due_while_live(&self) -> Position {
        self.last
    }

    /// Whether a batch is to settle everything up to this end LSN. Each is given to one batch.
    pub fn settle_end(&mut self, end_lsn: Lsn) -> bool {
        let is_ahead = end_lsn > self.settled_end;
        self.settled_end = self.settled_end.max(end_lsn);
        is_ahead
    }
}

/// The next step of the feed at the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStep {
    /// Read how far the recorder has come, before the table, and then see whether it has answered:
    /// [`TableCourse::pass_begun`], [`TableCourse::answered`].
    BeginPass,
    /// Claim and render the next jobs: [`TableCourse::claimed`].
    Claim { after: Position, up_to: Option<Position> },
    /// Work on the jobs that are due at positions up to this one: [`TableCourse::due_taken`].
    TakeDue { behind: Position },
    /// Settle everything up to this LSN: [`TableCourse::end_settled`].
    SettleEnd(Lsn),
    /// Ask the recorder to go live, if it has not been asked, and wait for its answer for a while:
    /// [`TableCourse::answered`], [`TableCourse::unanswered`].
    AskLive,
    /// Follow the stream from this position on. Everything up to it has been claimed.
    Follow(Position),
}

/// Where live mode begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveStart {
    /// All that the table holds of this slot is at or below it.
    pub recorded: Position,
    /// What may be acknowledged once all of it is settled.
    pub end_lsn: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CourseStage {
    Begin,
    Claim,
    Due,
    Settle,
    Ask,
    Follow,
}

/// One way from the first unfinished job to the stream.
#[derive(Clone, Copy, Debug)]
pub struct TableCourse {
    /// Every job up to here that is due has been claimed.
    cursor: Position,
    /// Everything below was in the table before the pass began.
    recorded_end: Lsn,
    live: Option<LiveStart>,
    stage: CourseStage,
}

impl TableCourse {
    /// `cursor` is just before the first unfinished job.
    #[must_use]
    pub fn new(cursor: Position) -> Self {
        Self { cursor, recorded_end: Lsn(0), live: None, stage: CourseStage::Begin }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self) -> TableStep {
        let up_to = self.live.map(|live| live.recorded);
        match self.stage {
            CourseStage::Begin => TableStep::BeginPass,
            CourseStage::Claim => TableStep::Claim { after: self.cursor, up_to },
            CourseStage::Due => TableStep::TakeDue { behind: self.cursor },
            CourseStage::Settle => {
                TableStep::SettleEnd(self.live.map_or(self.recorded_end, |live| live.end_lsn))
            }
            CourseStage::Ask => TableStep::AskLive,
            CourseStage::Follow => TableStep::Follow(up_to.unwrap_or(self.cursor)),
        }
    }

    /// The recorder had come to this end LSN, and had not gone live.
    pub fn pass_begun(&mut self, recorded_end: Lsn) {
        self.recorded_end = recorded_end;
        self.stage = CourseStage::Claim;
    }

    /// Jobs up to `last` were claimed and rendered; `None` if there were none.
    pub fn claimed(&mut self, last: Option<Position>) {
        match last {
            Some(last) => self.cursor = last,
            // What became due meanwhile is taken beside the stream.
            None if self.live.is_some() => self.stage = CourseStage::Settle,
            None => self.stage = CourseStage::Due,
        }
    }

    /// The jobs that were due have been rendered, or as many as one pass takes.
    pub fn due_taken(&mut self) {
        self.stage = CourseStage::Settle;
    }

    /// The end LSN was given to a batch.
    pub fn end_settled(&mut self) {
        self.stage = if self.live.is_some() { CourseStage::Follow } else { CourseStage::Ask };
    }

    /// The recorder has gone live.
    pub fn answered(&mut self, live: LiveStart) {
        self.live = Some(live);
        self.stage = CourseStage::Claim;
    }

    /// The recorder has not answered yet: the next pass begins.
    pub fn unanswered(&mut self) {
        self.stage = CourseStage::Begin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position { commit_lsn: Lsn(lsn), ordinal: 0 }
    }

    #[test]
    fn the_course_goes_through_the_table_to_the_position_of_the_answer() {
        let mut course = TableCourse::new(at(7));
        assert_eq!(course.next(), TableStep::BeginPass);
        course.pass_begun(Lsn(50));
        assert_eq!(course.next(), TableStep::Claim { after: at(7), up_to: None });
        course.claimed(Some(at(16)));
        assert_eq!(course.next(), TableStep::Claim { after: at(16), up_to: None });
        course.claimed(None);
        assert_eq!(course.next(), TableStep::TakeDue { behind: at(16) });
        course.due_taken();
        assert_eq!(course.next(), TableStep::SettleEnd(Lsn(50)));
        course.end_settled();
        assert_eq!(course.next(), TableStep::AskLive);
        course.unanswered();
        assert_eq!(course.next(), TableStep::BeginPass);
        course.pass_begun(Lsn(60));
        course.claimed(None);
        course.due_taken();
        course.end_settled();
        course.answered(LiveStart { recorded: at(72), end_lsn: Lsn(80) });
        assert_eq!(course.next(), TableStep::Claim { after: at(16), up_to: Some(at(72)) });
        course.claimed(Some(at(72)));
        assert_eq!(course.next(), TableStep::Claim { after: at(72), up_to: Some(at(72)) });
        course.claimed(None);
        assert_eq!(course.next(), TableStep::SettleEnd(Lsn(80)));
        course.end_settled();
        assert_eq!(course.next(), TableStep::Follow(at(72)));
    }

    #[test]
    fn an_end_is_settled_once_and_due_jobs_stay_behind_the_stream() {
        let mut fed = FedPositions::new(at(8));
        assert!(fed.settle_end(Lsn(50)));
        assert!(!fed.settle_end(Lsn(50)));
        assert!(!fed.settle_end(Lsn(40)));
        assert!(fed.settle_end(Lsn(51)));
        fed.note(at(24));
        fed.note(at(16));
        assert_eq!(fed.due_while_live(), at(24));
    }
}
