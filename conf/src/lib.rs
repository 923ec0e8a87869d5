//! What operators write, checked: the only place that knows the file format.

pub mod change;
pub mod finding;
pub mod parse;
pub mod scenario;
pub mod settings;
pub mod shipped;

mod check;
mod document;
mod item;
mod read;
mod template;
