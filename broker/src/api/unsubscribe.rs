//! Unsubscribe: ends a stream.

use tidelog_protocol::messages::{UnsubscribeRequest, UnsubscribeResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::{Input, decode};
use crate::session::{Reply, Session};

pub(super) fn handle(session: &Session, input: &Input, reply: Reply) {
    let Some((request, reply)) = decode::<UnsubscribeRequest>(session, input, reply) else { return };
    if session.streams.close(request.stream) {
        reply.send(&UnsubscribeResponse {});
    } else {
        let sentence = format!("stream {} is not open on this connection", request.stream);
        reply.fail(WireError::new(ErrorCode::UnknownStream, sentence));
    }
}
