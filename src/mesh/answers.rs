//! What a member answers to verbs: over the control socket.
