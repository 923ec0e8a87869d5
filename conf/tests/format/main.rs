//! The file format as operators meet it.

mod faulty;
mod robust;
mod shipped;
