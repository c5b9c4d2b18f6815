package main

import "github.com/spf13/cobra"

func budgetCommand() *cobra.Command   { return &cobra.Command{Use: "budget"} }
func timelineCommand() *cobra.Command { return &cobra.Command{Use: "timeline"} }
