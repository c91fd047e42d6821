"""From numbers to tables, pictures, notebook views and pages."""
