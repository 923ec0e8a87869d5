//! What operators see and touch.
