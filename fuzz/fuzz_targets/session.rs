//! Files of the app's sessions.
#![no_main]

#[allow(dead_code, unused, reason = "most of it is the app's")]
#[path = "../../viewer/src/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let session = session::Session::parse(bytes);
    assert!(session.notes.is_sorted_by_key(|note| note.time), "marks out of order");
    let written = serde_json::to_vec(&session).expect("writes");
    assert_eq!(session::Session::parse(&written), session);
});
