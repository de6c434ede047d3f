"""Other ways of finding out which memory is accessed."""
