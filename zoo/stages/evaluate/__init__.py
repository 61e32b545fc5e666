"""Package → Reports: score a package on tasks, alone or against another package or the original weights."""
