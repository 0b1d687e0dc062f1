//! Real hosts in real processes, as clients use them.

mod abi;
mod ahead;
mod calls;
mod crowded;
mod determinism;
mod durable;
mod examples;
mod grants;
mod initialisers;
mod jobs;
mod leaving;
mod moves;
mod pair;
mod pauses;
mod plain_runtime;
mod prepared;
mod quota;
mod reopened;
mod restored;
mod running;
mod session_moves;
mod sessions;
mod shares;
mod trust;
mod uploads;
mod waiting;
