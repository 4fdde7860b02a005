//! What goes on in the background for the second trace.

use crate::answers::Answers;
use crate::loader::Loader;
use crate::seek::Seeking;
use llmtrace_analysis::fetch::Fetcher;

/// Loader, fetcher and searches of the second trace, as the app has them of the first.
#[derive(Default)]
pub(crate) struct Second {
    pub(crate) loader: Option<Loader>,
    pub(crate) fetcher: Option<Fetcher>,
    pub(crate) seeking: Option<Seeking>,
    pub(crate) answers: Answers,
}
