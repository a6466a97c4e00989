use super::{Addition, Wishes};
use crate::detect::project::Project;
use crate::failure::Failure;

pub(super) fn plan(_project: &Project, _wishes: &Wishes<'_>) -> Result<Addition, Failure> {
    Err(Failure::failed("not known"))
}
