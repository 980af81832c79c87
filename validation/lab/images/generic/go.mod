module rollsim.dev/lab/generic

go 1.24.0
