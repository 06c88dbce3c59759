//! Resources of many kinds in one list: the only boxed form of [`Resource`].

use std::any::Any;
use std::fmt::{Debug, Display};
use std::path::PathBuf;
use std::sync::Arc;

use crate::resource::{Applied, Boxed, Change, Check, Drift, Fault, Look, Promise, Resource, Signal, Watch, Work};

/// A resource of any kind.
pub type AnyResource = Arc<dyn Erased>;

/// A drift together with the resource it belongs to.
pub trait Fix: Display + Debug + Send {
    /// Contents before and after, for a diff.
    fn change(&self) -> Option<Change>;
    /// What the repair would make of paths.
    fn promises(&self) -> Vec<(PathBuf, Promise)>;
    /// Repairs it.
    fn apply(self: Box<Self>, work: Work) -> Boxed<Result<Applied, Fault>>;
}

/// [`Resource`], object safe.
pub trait Erased: Any + Debug + Send + Sync {
    /// See [`Resource::watch`].
    fn watch(&self, signal: &Signal) -> Result<Watch, Fault>;
    /// See [`Resource::check`].
    fn check(self: Arc<Self>, look: Look) -> Boxed<Result<Check<Box<dyn Fix>>, Fault>>;
    /// See [`Resource::refresh`].
    fn refresh(self: Arc<Self>, work: Work) -> Boxed<Result<Applied, Fault>>;
    /// See [`Resource::on_refresh`].
    fn on_refresh(&self) -> Option<&'static str>;
    /// Equal in every parameter, and of the same kind.
    fn same(&self, other: &dyn Erased) -> bool;
}

struct Found<R: Resource> {
    resource: Arc<R>,
    drift: R::Drift,
}

impl<R: Resource> Display for Found<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.drift, f)
    }
}

impl<R: Resource> Debug for Found<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.drift, f)
    }
}

impl<R: Resource> Fix for Found<R> {
    fn change(&self) -> Option<Change> {
        self.drift.change()
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        self.drift.promises()
    }

    fn apply(self: Box<Self>, work: Work) -> Boxed<Result<Applied, Fault>> {
        Box::pin(async move { self.resource.apply(self.drift, &work).await })
    }
}

impl<R: Resource> Erased for R {
    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        Resource::watch(self, signal)
    }

    fn check(self: Arc<Self>, look: Look) -> Boxed<Result<Check<Box<dyn Fix>>, Fault>> {
        Box::pin(async move {
            Ok(match Resource::check(&*self, &look).await? {
                Check::Converged => Check::Converged,
                Check::Unknown(why) => Check::Unknown(why),
                Check::Later(what) => Check::Later(what),
                Check::Drifted(drift) => {
                    let fix: Box<dyn Fix> = Box::new(Found { resource: self, drift });
                    Check::Drifted(fix)
                }
            })
        })
    }

    fn refresh(self: Arc<Self>, work: Work) -> Boxed<Result<Applied, Fault>> {
        Box::pin(async move { Resource::refresh(&*self, &work).await })
    }

    fn on_refresh(&self) -> Option<&'static str> {
        Resource::on_refresh(self)
    }

    fn same(&self, other: &dyn Erased) -> bool {
        (other as &dyn Any).downcast_ref::<R>().is_some_and(|other| self == other)
    }
}
