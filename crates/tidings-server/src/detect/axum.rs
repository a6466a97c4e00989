use super::Detected;
use super::project::Project;

pub(super) fn tell(_project: &Project, _wanted: Option<&str>, _detected: &mut Detected) {}
