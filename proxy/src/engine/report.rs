//! Instances' load reports on their way through: read here, and not for clients' eyes unless the operator says so.

use foretide_orca::{BINARY_HEADER, HEADER, read, read_binary};
use foretide_routing::observe::Reported;
use foretide_routing::settings::UpstreamSettings;
use http::HeaderMap;
use http::header::HeaderName;

/// Names under which a report may stand: in any form, and in the binary one alone.
pub(super) static NAMES: [HeaderName; 2] =
    [HeaderName::from_static(HEADER), HeaderName::from_static(BINARY_HEADER)];

/// The report among an answer's headers or trailers; `None`: there is none, `Some(None)`: it cannot be read.
pub(super) fn read_from(headers: &HeaderMap, upstream: &UpstreamSettings) -> Option<Option<Reported>> {
    let cost = upstream.cost_from.as_ref();
    let [any_form, binary] = &NAMES;
    match headers.get(any_form) {
        Some(value) => Some(read(value.as_bytes(), cost)),
        None => Some(read_binary(headers.get(binary)?.as_bytes(), cost)),
    }
}
