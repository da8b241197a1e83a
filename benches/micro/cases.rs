//! What the micro benches run: the same cases for criterion (time) and Gungraun (instructions).
//!
//! A case prepares its input once and hands back a closure that does the work once, warm: buffers
//! have their size and nothing is parsed or compiled that a running gateway would not repeat for
//! each request.

mod config;
mod http1;
mod policy;
mod route;
mod snapshot;

/// One measured piece of work.
pub(crate) struct Case {
    /// `area_what`; the key in baseline.json.
    pub name: &'static str,
    /// Prepares it.
    pub prepare: fn() -> Work,
}

/// Does a case's work once each time it is called.
pub(crate) type Work = Box<dyn FnMut()>;

/// Every case.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    let areas: [&[Case]; 5] = [
        &http1::CASES,
        &route::CASES,
        &policy::CASES,
        &config::CASES,
        &snapshot::CASES,
    ];
    areas.into_iter().flatten()
}

/// A case by name, prepared and run a few times.
pub(crate) fn warm(name: &str) -> Work {
    let case = all()
        .find(|case| case.name == name)
        .expect("a name of a case");
    let mut work = (case.prepare)();
    for _ in 0..3 {
        work();
    }
    work
}
