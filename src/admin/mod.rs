//! What people may see and do: figures, health, jobs, records.
//!
//! One function for each operation, with a typed result and audited inside. The HTTP API and the
//! command line parse arguments and print results; both call the same function.
//!
//! Not here: HTTP (`api`), the terminal (`command`), and what the running pipeline does by itself
//! (`engine`).

pub mod audit;
pub mod audited;
pub mod elasticsearch;
pub mod figures;
pub mod health;
pub mod jobs;
pub mod operation;
pub mod page;
pub mod pool;
pub mod record;
